"""The page as a file: what is in it, what must not be, and which input is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from neuronym.errors import FolderInUseError, InputError, MissingError
from neuronym.files import output_folder, read_manifest
from neuronym.report import ExplainedImage, ReportOptions, sentence, write_report
from neuronym.report.overview import _command
from neuronym.results import Atlas
from report.helpers import STATIC, data_of, page, small, unit, visible
from report.synthetic import SUMMARY, make_explanation, make_truth

ROOT = Path(__file__).resolve().parents[2]


class TestContent:
    def test_overview_tells_the_figures_of_the_summary(self, index: Path) -> None:
        text = visible(index.read_text(encoding="utf-8"))
        assert "The neurons of scenes-mlp" in text
        assert "Accuracy 97.3 % competitive 97.3 % dense twin 96.9 % 0.4 points above" in text
        assert "Active at each position 12.5 % one winner in each block of 8 competitors" in text
        assert "Names that are right 88.5 % 54 of the 61 selective units" in text
        assert (
            "checked 96 live 90 93.8 % of them won (at a dense site: fired) at least once" in text
        )
        assert "train 1 min 36 s" in text

    def test_sites_are_listed_with_what_was_measured(self, index: Path) -> None:
        text = visible(index.read_text(encoding="utf-8"))
        assert "head.lwta 12 blocks of 8 competitors 96" in text
        assert "blocks.2.act dense 40" in text
        assert "41.4 % mean 196" in text

    def test_the_command_repeats_the_run(self, index: Path) -> None:
        assert (
            "neuronym dissect --model scenes-mlp --images scenes:160 --concepts attributes "
            "--vision-text pocket --sites '*' --similarity softwpmi --out DIR"
        ) in visible(index.read_text(encoding="utf-8"))

    def test_what_is_missing_is_not_shown(self, tmp_path: Path) -> None:
        text = visible(page(small(), tmp_path / "out"))
        for word in ("Accuracy", "Active", "truth", "repeat", "took", "None", "nan", "right"):
            assert word not in text
        assert "4 of 4 units at 1 site have a name." in text

    def test_only_one_accuracy_is_shown_without_a_comparison(self, tmp_path: Path) -> None:
        text = visible(page(small(), tmp_path / "out", summary={"accuracy": {"dense": 0.5}}))
        assert "Accuracy 50.0 % dense twin" in text
        assert "points" not in text

    def test_a_lower_accuracy_is_said(self, tmp_path: Path) -> None:
        figures = {"accuracy": {"competitive": 0.9, "dense": 0.92}}
        text = visible(page(small(), tmp_path / "out", summary=figures))
        assert "2.0 points below its dense twin" in text

    def test_the_whole_summary_of_a_demo(self, tmp_path: Path) -> None:
        figures = {
            **SUMMARY,
            "accuracy": {"competitive": 0.95, "dense": 0.9502},
            "task": "colour and shape",
            "classes": 40,
            "scenes": {"test": 500, "training": 2000},
            "active_fraction_dense": 0.47,
            "units": {"all": 96, "live": 90, "selective": 61, "right": 54},
            "shares": {"units.right": {"value": 0.885, "n": 61, "interval": (0.803, 0.967)}},
        }
        text = visible(page(small(), tmp_path / "out", summary=figures))
        assert "within 0.05 points of its dense twin; task: colour and shape, 40 classes" in text
        assert "40 classes, 500 test images" in text
        assert "8 competitors; 47.0 % in its dense twin" in text
        assert "true attributes (95 % interval 80.3 % to 96.7 %)" in text
        assert "checked 96 live 90" in text

    def test_specs_may_be_mappings(self, tmp_path: Path) -> None:
        atlas = small(provenance={"model": {"spec": "pocket:x", "fingerprint": "ab"}})
        text = visible(page(atlas, tmp_path / "out"))
        assert "The neurons of pocket:x" in text
        assert "model.fingerprint ab" in text

    def test_data_holds_every_unit_and_the_truth(self, index: Path, atlas: Atlas) -> None:
        data = data_of(index.read_text(encoding="utf-8"))
        columns = data["units"]
        assert {len(column) for column in columns.values()} == {len(atlas)}
        for position in (0, 17, 120):
            row = atlas.units[position]
            name = columns["name"][position]
            assert (None if name < 0 else data["words"][name]) == row.name
            assert columns["score"][position] == pytest.approx(row.score, rel=1e-6)
            shown = [data["images"][i][2] for i in columns["top"][position]]
            assert shown == list(row.top_images)
        rows = make_truth(atlas)
        assert data["truth"]["right"] == [row["right"] for row in rows] + [None] * 40

    def test_an_empty_atlas_makes_a_page(self, tmp_path: Path) -> None:
        text = page(small(sites=(), units=()), tmp_path / "out")
        assert "0 of 0 units at 0 sites" in visible(text)

    def test_units_without_name_or_score(self, tmp_path: Path) -> None:
        silent = unit(0, name=None, score=None, firing_rate=0.0, win_rate=0.0)
        text = page(small(units=(silent, unit(1), unit(2), unit(3))), tmp_path / "out")
        assert "3 of 4 units" in visible(text)
        assert data_of(text)["units"]["score"][0] is None


class TestExplanations:
    def test_every_number_of_the_sentence_is_in_the_table(
        self, atlas: Atlas, tmp_path: Path
    ) -> None:
        made = make_explanation(atlas, seed=3)
        # Few rows, so that the unit against would have none if rows went by size alone.
        options = ReportOptions(winners=5)
        text = page(atlas, tmp_path / "out", explanations=[made], options=options)
        chart = visible(re.search(r'<table class="chart">.*?</table>', text, re.DOTALL)[0])  # type: ignore[index]
        numbers = re.findall(r"[+−][\d.]+", sentence(made))
        assert len(numbers) >= 3
        for value in numbers:
            assert f" {value}" in chart
        assert " 6 other units (" in chart
        assert sentence(made).replace("“", "").replace("”", "") in visible(text).replace(
            "\u00a0", " "
        ).replace("(78.1 %)", "(78.1\u00a0%)")

    def test_rows_and_rest_add_up(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas, seed=4)
        text = page(atlas, tmp_path / "o", explanations=[made], options=ReportOptions(winners=6))
        rows = re.findall(r'<td class="num">([+−]?[\d.]+)</td>\s*</tr>', text)
        values = [float(row.replace("−", "-")) for row in rows]
        total = sum(winner.contribution for winner in made.winners)
        assert len(values) == 7 + 4  # rows with the rest, and the sum's own four terms
        assert sum(values[:7]) == pytest.approx(total, abs=0.05)
        assert sum(values[7:10]) == pytest.approx(values[10], abs=0.02)

    def test_an_exact_sum_is_called_complete(self, atlas: Atlas, tmp_path: Path) -> None:
        text = visible(page(atlas, tmp_path / "o", explanations=[make_explanation(atlas)]))
        assert "Complete: the terms add up to the logit" in text
        assert "is missing" not in text

    def test_a_completeness_error_is_never_hidden(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas, error=0.42)
        text = visible(page(atlas, tmp_path / "o", explanations=[made]))
        assert "completeness error +0.42" in text
        assert "0.42 of the logit belongs to no single unit" in text
        assert "Complete:" not in text

    def test_a_sum_that_is_wrong_is_called_damaged(self, atlas: Atlas, tmp_path: Path) -> None:
        made = replace(make_explanation(atlas), baseline=1.31)
        text = visible(page(atlas, tmp_path / "o", explanations=[made]))
        assert "The terms do not add up: −1.00 is missing" in text

    def test_winners_link_to_their_neurons(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas)
        text = page(atlas, tmp_path / "o", explanations=[made])
        for winner in made.winners:
            assert f'href="#unit=head.lwta/{winner.unit}"' in text

    def test_another_model_is_said_and_not_linked(self, atlas: Atlas, tmp_path: Path) -> None:
        ours = replace(atlas, provenance={"model": {"spec": "m", "fingerprint": "aa"}})
        made = replace(make_explanation(atlas), provenance={"model": {"fingerprint": "bb"}})
        text = page(ours, tmp_path / "o", explanations=[made])
        assert "made from another model than the atlas" in visible(text)
        assert '<table class="chart">' in text
        assert "#unit=" not in text[text.index('id="view-explained"') : text.index("<footer>")]

    def test_a_site_that_the_atlas_lacks_is_not_linked(self, atlas: Atlas, tmp_path: Path) -> None:
        made = replace(make_explanation(atlas), site="elsewhere")
        text = page(atlas, tmp_path / "o", explanations=[made])
        assert "Winners of elsewhere" in visible(text)
        assert "#unit=elsewhere" not in text

    def test_without_explanations_there_is_no_such_part(self, tmp_path: Path) -> None:
        assert "view-explained" not in page(small(), tmp_path / "o").split("<script")[2]

    def test_no_winner_at_all(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas)
        silent = replace(made, winners=(), baseline=made.target.logit)
        text = page(atlas, tmp_path / "o", explanations=[silent])
        assert "no unit of head.lwta passed anything on" in visible(text)
        assert '<table class="chart">' not in text


class TestFolder:
    def test_the_manifest_says_what_is_there(self, index: Path) -> None:
        manifest = read_manifest(index.parent, kind="report", schema=1)
        assert (manifest["units"], manifest["explained"]) == (136, 3)
        assert manifest["pictures"] == len(list((index.parent / "images").iterdir()))
        assert manifest["unreadable"] == []

    def test_an_earlier_report_is_kept_unless_told(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        write_report(small(), out)
        with pytest.raises(FolderInUseError, match=r"already holds .*'report'"):
            write_report(small(), out)
        (out / "images").mkdir(exist_ok=True)
        (out / "images" / "old.jpg").write_bytes(b"old")
        write_report(small(), out, options=ReportOptions(overwrite=True))
        assert not (out / "images").exists()

    def test_an_earlier_report_stays_where_the_new_one_fails(
        self, atlas: Atlas, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        write_report(small(), out)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        lost = ExplainedImage(make_explanation(atlas), tmp_path / "lost.png")
        with pytest.raises(MissingError, match=r"lost\.png"):
            write_report(atlas, out, explanations=[lost], options=ReportOptions(overwrite=True))
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        assert sorted(path.name for path in out.iterdir()) == sorted(
            {path.relative_to(out).parts[0] for path in before}
        )

    def test_a_failed_report_may_be_tried_again(self, atlas: Atlas, tmp_path: Path) -> None:
        lost = ExplainedImage(make_explanation(atlas), tmp_path / "lost.png")
        with pytest.raises(MissingError):
            write_report(atlas, tmp_path / "out", explanations=[lost])
        assert write_report(atlas, tmp_path / "out").is_file()

    def test_a_claimed_folder_is_taken(self, tmp_path: Path) -> None:
        claimed = output_folder(tmp_path / "out", kind="report")
        assert write_report(small(), claimed).is_file()

    def test_other_files_are_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(FolderInUseError, match="files that are not a neuronym run"):
            write_report(small(), tmp_path, options=ReportOptions(overwrite=True))
        assert (tmp_path / "thesis.txt").read_text() == "mine"

    def test_bad_input_leaves_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            write_report(small(), tmp_path / "out", summary={"competitors": "eight"})
        assert not (tmp_path / "out").exists()

    def test_every_file_of_the_page_is_packaged(self) -> None:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        globs = re.findall(r'"\*\*/(\*\.\w+)"', text)
        parts = [
            path for path in STATIC.parent.rglob("*") if path.suffix not in ("", ".py", ".pyc")
        ]
        assert len(parts) > 10
        for path in parts:
            assert any(fnmatch(path.name, glob) for glob in globs), path.name


class TestBadInput:
    @pytest.mark.parametrize(
        ("summary", "message"),
        [
            ({"accuracy": {"competitive": "high"}}, "'accuracy.competitive' must be a number"),
            ({"accuracy": 0.9}, "0.9 is not a mapping"),
            ({"active_fraction": -1}, "must be a number of at least 0, not -1"),
            ({"units": {"live": float("nan")}}, "not nan"),
            ({"units": {"live": True}}, "not True"),
            ({"seconds": {"train": "long"}}, "'seconds.train' must be a number"),
            ({"truth": {"head": 1}}, "must be a list of rows, not dict"),
            ({"truth": [3]}, "row 0 must be a mapping, not int"),
            ({"truth": [{"site": "head", "unit": 9}]}, "names unit 'head/9'"),
            ({"truth": [{"site": "head", "unit": 0}]}, r"\(head/0\) must have 'attribute'"),
            (
                {"truth": [{"site": "head", "unit": 0, "attribute": "red", "auroc": 2}]},
                "'auroc' of 0 to 1, not 2",
            ),
            (
                {
                    "truth": [
                        {"site": "head", "unit": 0, "attribute": "a", "auroc": 0.5, "right": "yes"}
                    ]
                },
                "'right' must be true or false",
            ),
        ],
    )
    def test_summary(self, tmp_path: Path, summary: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            write_report(small(), tmp_path / "out", summary=summary)

    def test_summary_of_another_type(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="summary must be a mapping, not list"):
            write_report(small(), tmp_path / "out", summary=[1])  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("name", "value"), [("winners", 3), ("top_images", 0), ("image_size", 1.5)]
    )
    def test_options(self, name: str, value: Any) -> None:
        with pytest.raises(InputError, match=f"{name} must be a whole number of"):
            ReportOptions(**{name: value})

    def test_a_unit_of_no_site(self, tmp_path: Path) -> None:
        atlas = small(units=(unit(0, site="tail"),))
        with pytest.raises(InputError, match="site 'tail', which the atlas does not list"):
            write_report(atlas, tmp_path / "out")

    def test_best_attribute_is_taken_too(self, tmp_path: Path) -> None:
        row = {"site": "head", "unit": 0, "best_attribute": "red", "auroc": 0.95, "right": True}
        text = page(small(), tmp_path / "out", summary={"truth": [row], **SUMMARY})
        assert data_of(text)["truth"]["attribute"] == ["red", None, None, None]


def test_the_command_names_the_choices_that_are_not_usual() -> None:
    specs = {key: {"spec": key} for key in ("model", "images", "concepts", "vision_text")}
    usual = {"level": 0.05, "fdr": "bh", "null_draws": 1000}
    facts = {**specs, "sites": "act", "similarity": {"name": "cosine"}, "seed": 0}
    plain = _command({**facts, "significance": usual, "linear": 0, "compose": 1})
    assert plain is not None
    assert plain.endswith("--similarity cosine --out DIR")
    changed = {"level": None, "fdr": "by", "null_draws": 400}
    other = _command({**facts, "significance": changed, "linear": 5, "compose": 3, "seed": 7})
    assert other is not None
    assert other.endswith(
        "--similarity cosine --significance 0 --null-draws 400 --fdr by --linear 5 --compose 3 "
        "--seed 7 --out DIR"
    )
