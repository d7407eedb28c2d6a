"""What a client says to a router so that it lets others in: PCP, NAT-PMP and UPnP."""
