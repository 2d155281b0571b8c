"""The trace of a message, told in plain words: on the command line and over REST."""
