"""The embedded default: base model, two adapters and a ready study."""
