"""What all else stands on: errors, files, the schema of configs, the device."""
