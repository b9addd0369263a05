"""Pure parts: what becomes of a job."""
