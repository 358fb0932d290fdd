"""Where z lay in training."""

import torch

from doodlelib.moments import LatentMoments


def test_moments_of_each_word_and_of_all() -> None:
    torch.manual_seed(0)
    moments = LatentMoments(2, 3)
    centre = torch.tensor([[1.0, 0.0, -2.0], [-1.0, 3.0, 0.0]])
    for _ in range(30):
        words = torch.randint(2, (50,))
        mean = centre[words] + 0.3 * torch.randn(50, 3)
        moments.follow(words, mean, torch.full((50, 3), 0.4).log())
    torch.testing.assert_close(moments.mean[:2], centre, atol=0.05, rtol=0)
    torch.testing.assert_close(moments.mean[2], centre.mean(0), atol=0.2, rtol=0)
    variance = moments.square - moments.mean**2
    torch.testing.assert_close(variance[:2], torch.full((2, 3), 0.25), atol=0.05, rtol=0)
    assert (variance[2] > variance[0]).all()  # the words lie apart

    drawn = moments.draw(torch.ones(4000, dtype=torch.long), generator=None)
    torch.testing.assert_close(drawn.mean(0), centre[1], atol=0.08, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.full((3,), 0.5), atol=0.05, rtol=0)


def test_an_untrained_model_draws_from_a_standard_normal() -> None:
    generator = torch.Generator().manual_seed(1)
    z = LatentMoments(2, 5).draw(torch.zeros(5000, dtype=torch.long), generator=generator)
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=0.1, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(5), atol=0.1, rtol=0)


def test_a_word_hardly_seen_has_the_moments_of_all() -> None:
    moments = LatentMoments(2, 1)
    many = torch.zeros(40, dtype=torch.long)
    moments.follow(many, torch.full((40, 1), 5.0), torch.full((40, 1), -9.0))
    moments.follow(many[:1] + 1, torch.full((1, 1), -5.0), torch.full((1, 1), -9.0))
    z = moments.draw(torch.ones(200, dtype=torch.long), generator=None)
    assert 4 < z.mean() < 6


def test_old_posteriors_are_forgotten() -> None:
    moments = LatentMoments(1, 1)
    words = torch.zeros(100, dtype=torch.long)
    for centre, times in ((0.0, 100), (3.0, 100)):
        for _ in range(times):
            moments.follow(words, torch.full((100, 1), centre), torch.full((100, 1), -9.0))
    assert moments.mean[0].item() > 2.9
