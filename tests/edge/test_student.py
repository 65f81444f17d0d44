"""The student: exits, sharing, masks and padding."""

import pytest
import torch

from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.edge.relation import prefix_mask
from recbole_recfound.edge.rounding import set_rounding
from recbole_recfound.edge.student import Student
from recbole_recfound.edge.tokens import FIRST
from tests.edge.conftest import NEWLINE


@pytest.mark.parametrize("share", [True, False])
@torch.no_grad()
def test_exit_k_equals_a_student_of_k_layers(make_student, batch, share):
    student = make_student(share_layers=share)
    found = student(*batch)
    for place, depth in enumerate([1, 2, 3]):
        small = make_student(share_layers=share, layers=depth, exits=[depth], seed=1)
        own = {name: weight for name, weight in student.state_dict().items() if name in small.state_dict()}
        small.load_state_dict(own)
        torch.testing.assert_close(small(*batch)[0], found[place], atol=1e-6, rtol=0)
        torch.testing.assert_close(student(*batch, [depth])[0], found[place], atol=1e-6, rtol=0)
        sizes = [sum(weight.numel() for weight in each.parameters_of(depth)) for each in (student, small)]
        assert sizes[0] == sizes[1] == sum(weight.numel() for weight in small.parameters())
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_shared_layers_have_the_parameters_of_one(make_student):
    counts = [
        sum(weight.numel() for weight in make_student(share_layers=True, layers=n, exits=[n]).parameters())
        for n in (1, 4)
    ]
    assert counts[0] == counts[1]
    shared, own = (sum(w.numel() for w in make_student(share_layers=share).parameters()) for share in (True, False))
    assert own - shared == 2 * sum(weight.numel() for weight in make_student().layers[0].parameters())


@torch.no_grad()
def test_equals_one_pass_over_each_text_with_the_prefix_mask(make_student, batch):
    student = make_student(share_layers=True)
    found = student(*batch)
    sources, targets, source_of = batch
    for row, number in enumerate(source_of.tolist()):
        source, target = sources[number][sources[number] > 0], targets[row][targets[row] > 0]
        states = student.project(student.embedding(torch.cat([source, target])))[None]
        allowed = prefix_mask(states.shape[1], len(source))
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]
        rotary = student.rotary(states, torch.arange(states.shape[1])[None])
        for place in range(3):
            states = student.layer(place + 1)(states, attention_mask=mask, position_embeddings=rotary)
            own, second = student.norm(states)[0, len(source) :], target[1:].tolist().index(NEWLINE) + 1
            read = (torch.stack([own[:second].mean(0), own[second:].mean(0)]) - student.center) / student.spread
            expected = student.head(read.flatten())
            torch.testing.assert_close(found[place][row], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("rounds", "tolerance"), [(False, 1e-6), (True, 1e-5)], ids=["float32", "8 bits"])
def test_padding_and_company_change_nothing(make_student, batch, rounds, tolerance):
    student = make_student()
    set_rounding(student, rounds)
    sources, targets, source_of = batch
    expected = torch.stack(student(*batch))
    wide = torch.nn.functional.pad(sources, (0, 5)), torch.nn.functional.pad(targets, (0, 3)), source_of
    torch.testing.assert_close(torch.stack(student(*wide)), expected, atol=tolerance, rtol=0)
    for row in range(3):
        target = targets[row][targets[row] > 0][None]
        source = sources[source_of[row]][sources[source_of[row]] > 0][None]
        alone = torch.stack(student(source, target, torch.tensor([0])))
        torch.testing.assert_close(alone[:, 0], expected[:, row], atol=tolerance, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("share", [True, False])
def test_deep_exits_begin_as_near_to_the_embeddings_as_a_student_of_one_layer(batch, share):
    """However many layers there are: all of them together add what one would."""
    found = {}
    for layers in (1, 8):
        torch.manual_seed(0)
        given = {"layers": layers, "exits": [layers], "width": 64, "embedding_size": 16, "share_layers": share}
        student = Student(40, 2, NEWLINE, DistilOptions.of(given, "distill")).eval()
        student.set_embeddings(torch.randn(38, 16))
        embedded = student.project(student.embedding(batch[1]))
        *_, states = student.states(*batch, layers)
        found[layers] = float((states - embedded).norm() / embedded.norm())
    assert 0.1 < found[8] < 1.3 * found[1]


@torch.no_grad()
def test_embeddings_begin_with_the_main_directions_of_the_teachers(make_student):
    student = make_student(vocabulary=20, embedding_size=4)
    table = torch.randn(18, 4) @ torch.randn(4, 16)
    student.set_embeddings(table)
    found = student.embedding.weight[FIRST:]
    ratios = torch.pdist(found) / torch.pdist(table)
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-3, atol=0)
