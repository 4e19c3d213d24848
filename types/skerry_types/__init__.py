"""Types: JSON Schemas that say what a thing must look like."""
