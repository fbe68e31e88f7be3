"""Tables: read, guess the types of columns, check, split (`bottega data prepare recipes/patients-table.yaml`)."""
