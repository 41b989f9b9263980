"""From images to batches on a device.

Small sets are kept there as uint8 and batches are picked from them (`resident`); of large ones each
batch is decoded, and augmented image by image, in worker processes (`decoded`). Both give the same
batches, whatever the number of workers: which is taken decides nothing but speed.
"""
