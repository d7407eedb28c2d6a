"""The network as the engine sees it: streams, datagrams, names, HTTP. The only place with sockets."""
