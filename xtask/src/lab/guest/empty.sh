# Nothing is set up: loopback only, ip_vs not loaded.
