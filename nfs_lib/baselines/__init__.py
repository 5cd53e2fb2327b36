"""What the method is compared with: a 2D warp, Wav2Lip, and the users' own checkouts of published methods."""
