"""One self-contained HTML page to draw with the model in a browser, offline."""

from doodlelib.page.build import build, nats_lost, pack_cnn, pack_vae, quantised
