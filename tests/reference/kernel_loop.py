"""The kernel bank as one would write it down: one domain after the other, one row after the other."""

import torch

from recbole_recfound.model.kernel import IAKKernelBank


def loop(bank: IAKKernelBank, h: torch.Tensor, domain: torch.Tensor, noise: torch.Tensor | None = None):
    """h' [B, d] and KL [B] of a batch by a loop over rows; `noise` [B, r] stands for eps in training."""
    rows, kls = [], []
    for row, number in enumerate(domain.tolist()):
        x = h[row]
        if number < 0 or not bank.enabled[number]:
            rows.append(x)
            kls.append(x.new_zeros(()))
            continue
        a = torch.relu(x @ bank.encoder_weight[number] + bank.encoder_bias[number])
        mean = a @ bank.mean_weight[number] + bank.mean_bias[number]
        z, kl = mean, x.new_zeros(())
        if bank.stochastic:
            logvar = (a @ bank.logvar_weight[number] + bank.logvar_bias[number]).clamp(-8, 4)
            posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
            prior = torch.distributions.Normal(bank.prior_mean[number], (bank.prior_logvar[number] / 2).exp())
            kl = torch.distributions.kl_divergence(posterior, prior).sum()
            if noise is not None:
                z = mean + (logvar / 2).exp() * noise[row]
        decoded = torch.relu(z @ bank.decoder_weight[number] + bank.decoder_bias[number])
        change = z @ bank.project[number] + decoded @ bank.output_weight[number] + bank.output_bias[number]
        if bank.combine == "residual":
            rows.append(x + bank.scale[number] * change)
        elif bank.combine == "replace":
            rows.append(change)
        else:
            gate = torch.sigmoid(torch.cat([x, change]) @ bank.gate_weight[number] + bank.gate_bias[number])
            rows.append((1 - gate) * x + gate * change)
        kls.append(kl)
    return torch.stack(rows), torch.stack(kls)
