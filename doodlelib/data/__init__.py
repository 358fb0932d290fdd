"""Files of drawings in, the published data, a made sample, and prepared stores."""
