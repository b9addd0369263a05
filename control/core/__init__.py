"""Pure rules of control: who may do what."""
