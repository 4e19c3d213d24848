"""What happens now: changes as they are told to subscribers, the live channel, acknowledgements."""
