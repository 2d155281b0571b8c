"""Distributed mode: smtp, imap, identity and storage as processes of their own, as many of each as wanted."""
