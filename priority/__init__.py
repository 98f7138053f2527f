"""priority: production and development share one datacentre safely."""
