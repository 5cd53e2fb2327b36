"""One module per trained part, each with `train(steps, seed, resume, device, out)`: `nfs train PART`."""
