"""Reports: HTML pages, one module for each command that writes one."""
