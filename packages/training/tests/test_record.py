from pathlib import Path

from spinmark_training.record import metrics_text, write_atomically


def test_metrics_are_a_table_with_blanks_where_nothing_was_measured() -> None:
    rows = [
        {"step": 1, "epoch": 0, "loss": 2.5, "lr": 1e-3},
        {"step": 2.0, "epoch": 1, "r2_A": -0.25},
    ]
    assert metrics_text(rows) == "step,epoch,loss,lr,r2_A\n1,0,2.5,0.001,\n2,1,,,-0.25\n"
    assert metrics_text([]) == "step,epoch\n"
    assert metrics_text([{"step": 1, "epoch": 0, "loss": float("nan")}]).endswith("1,0,nan\n")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("one", "two"):
        write_atomically(path, text)
        assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
