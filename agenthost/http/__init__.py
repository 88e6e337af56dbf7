"""HTTP: the layers a request passes, from the socket to the dialect that answers it."""
