"""The storage port on MongoDB: any number of processes, none of which holds state of its own."""
