"""Starts, watches and stops the processes of one instance on this machine: Ray, control and gateway."""
