"""What connectors of HTTP APIs share: a bounded GET, and answers that are sent once each."""
