"""Models, deployments, jobs and fine-tunes: validates, records, enqueues."""
