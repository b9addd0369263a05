"""The shared kernel: resources, store, settings, errors, clock, ids, units, telemetry."""
