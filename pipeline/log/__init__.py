"""The log as everybody sees it: blocks that tile offset ranges, and witnesses of what stood at an offset."""
