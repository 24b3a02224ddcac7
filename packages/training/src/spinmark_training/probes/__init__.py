"""Probes: how well a table variable can be read from embeddings, without labels in training.

Each is fitted on the embeddings of training subjects and scored on those of validation subjects. They
follow a run, so they are cheap and need no search: no penalty, no number of neighbours is tuned.

- `linear`: ridge regression, a ridge classifier, balanced accuracy and the area under the ROC curve.
- `neighbours`: votes and means of the nearest neighbours by cosine.
- `targets`: a table variable for every scan, and whether it is a number or a class.
- `finetune`: encoder and heads learn a few labels together; `few_labels` are those labels, made for heads.
"""
