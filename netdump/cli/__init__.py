"""The commands, one file each: `cmd_<name>.py` with a click command called `command`."""
