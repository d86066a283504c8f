"""Imported once by the server that test processes are forked from: loads every kernel, so that none has to again."""

import torch
from toys import toy_run

from umbel.model.hf import new_model

torch.set_num_threads(1)
_model = new_model(toy_run().model, 256, 0)
_ids = torch.randint(7, 11, (2, 64))
_model(_ids).logits.sum().backward()
with torch.no_grad():
    _model.eval()(_ids)
