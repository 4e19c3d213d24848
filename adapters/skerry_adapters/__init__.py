"""What connects the registry to the world: MQTT, the embedded broker, series stores."""
