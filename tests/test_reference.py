import json

import numpy as np
import pandas as pd
import pytest

from jobs.reference import REFERENCE_KEY, SCORE, Histogram, Reference

NAN = float("nan")


def test_a_histogram_has_bins_of_equally_many_and_counts_what_is_missing():
    values = np.append(np.arange(80.0), [NAN] * 20)
    found = Histogram.of(values)
    assert len(found.shares) == len(found.edges) + 1 == 10
    assert found.shares == (0.08,) * 10
    assert found.missing == 0.2
    assert (found.mean, found.std) == (39.5, 23.0922)


def test_an_edge_belongs_to_the_bin_above_and_the_outer_bins_are_open():
    shares, missing = Histogram((1.0, 2.0), (0.0, 0.0, 0.0), 0.0, 0.0, 0.0).shares_of(
        np.array([-9.0, 1.0, 1.5, 2.0, 99.0, NAN, NAN, NAN])
    )
    np.testing.assert_array_equal(shares, [1 / 8, 2 / 8, 2 / 8])
    assert missing == 3 / 8


@pytest.mark.parametrize(
    ("values", "edges", "shares"),
    [
        ([0.0] * 99 + [5.0], (5.0,), (0.99, 0.01)),
        ([3.0] * 5, (), (1.0,)),
        ([NAN] * 5, (), (0.0,)),
        ([1.0, 1.0, 2.0, 2.0], (2.0,), (0.5, 0.5)),
    ],
)
def test_equal_values_share_a_bin(values, edges, shares):
    found = Histogram.of(np.array(values))
    assert (found.edges, found.shares) == (edges, shares)


def test_large_codes_are_counted_between_the_edges_that_are_stored():
    codes = np.random.default_rng(1).integers(-2_000_000, 2_000_000, 999).astype(float)
    found = Histogram.of(codes)
    shares, _ = found.shares_of(codes)
    np.testing.assert_allclose(shares, found.shares, atol=1e-6)


def test_a_reference_comes_back_from_the_metadata():
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"amount": rng.gamma(2, 50, 300), "none": np.full(300, NAN)})
    known = Reference.of(features, rng.random(80), pd.Series(["b", "a", "b", None] * 75))
    assert list(known.numeric) == ["amount", "none", SCORE]
    assert known.categories == {"b": 0.5, "a": 0.25}
    read = Reference.from_metadata({REFERENCE_KEY: known.to_json()})
    assert str(read) == str(known)
    assert Reference.from_metadata({"threshold": 0.5}) is None
    assert Reference.from_metadata(None) is None


@pytest.mark.parametrize("text", ["no", "[]", json.dumps({"numeric": {"a": {}}}), "{}"])
def test_what_is_no_reference_is_told(text):
    with pytest.raises(ValueError, match="metadata 'reference': expected JSON"):
        Reference.from_metadata({REFERENCE_KEY: text})
