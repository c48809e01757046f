"""Where images and rows come from and go to: folders and Kafka."""
