"""Records and spans of producers become events of the contract."""
