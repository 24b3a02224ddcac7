"""Probes of many targets with few and with many labels, for many representations.

- `targets`: what is probed: a number, a class or an event for every scan.
- `plan`: which scans are labelled for each target, budget and draw; the same for every arm.
- `predict`: linear and neighbour probes of one embedding, and what they say of the test scans.
- `sites`: probes fitted without a site and scored on it; how well the site itself is read.
- `confounders`: what age, sex and body mass, as decoded from the embedding, already explain.
- `retrieval`: from a scan to its table row and back.
- `finetuned`: predictions that were made elsewhere, checked.
- `table`: scores with intervals and paired differences as tidy rows.
"""
