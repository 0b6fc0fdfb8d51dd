"""What is shipped to run the gateway somewhere: image, compose file, manifests, unit, dashboard, alerts."""
