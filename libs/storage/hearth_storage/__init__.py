"""Where bytes lie: S3 objects, the model store on disk, adapters."""
