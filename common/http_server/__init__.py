"""What both HTTP servers, gateway and control, do to hold against whoever reaches their ports."""
