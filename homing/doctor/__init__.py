"""Is all there that mail needs: names, records, certificates, ports, the machine itself? Found beside wanted."""
