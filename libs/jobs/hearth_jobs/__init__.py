"""The truth about work: job records and their state machine in Redis, queues, leases, fencing, the process guard."""
