"""What was measured: `priority bench` (each file a bench), over `figures` and a service of its own."""
