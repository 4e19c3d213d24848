"""A wind farm's devices, played by us: simulated turbines and replayed SCADA files, publishing over MQTT."""
