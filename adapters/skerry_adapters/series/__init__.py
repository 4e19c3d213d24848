"""Where samples go: the embedded series store and InfluxDB."""
