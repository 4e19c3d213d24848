"""The embedded store's schema: one SQL file per version, applied in order; PRAGMA user_version says how far."""
