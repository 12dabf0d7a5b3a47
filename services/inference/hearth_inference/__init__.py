"""The inference node: owns one engine process for as long as it is deployed."""
