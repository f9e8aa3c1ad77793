"""The daily reliability board: closed days against target, sealed, with what moved them."""
