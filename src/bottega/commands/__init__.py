"""The verbs of the command line, a file a group; all work is done on lower floors."""
