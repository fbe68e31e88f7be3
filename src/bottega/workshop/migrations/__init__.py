"""Migrations of the workshop's store, applied by `Store.open`."""
