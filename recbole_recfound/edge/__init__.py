"""M6-Edge: a small student of a text model, distilled, pruned, in 8 bits, and answers without torch (`edge.answer`)."""
