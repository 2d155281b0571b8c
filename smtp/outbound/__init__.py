"""Mail on its way out: routes, transports, the runner of the spool."""
