"""What several detectors say of the same pictures: thresholds, alarms, areas, and what attackers keep."""

import numpy as np
import pandas as pd

from foclip.detection import conformal_threshold
from foclip.studies.harness.statistics import Estimate, area, groups, mean, percent, share

#: What became of a file: nothing.
AS_IT_IS = "as it is"
#: Rows of pictures that nobody fooled: those that set the thresholds, and the originals of fooled ones.
CLEAN, ORIGINAL = "clean", "original"
#: What attackers know, if it is not one of the baselines; the second is also the name of our detector.
NOTHING, OURS, POLICY, LOWER = "nothing", "ours", "the policy", "the lower score, no detector"
PAIR = "the lower of two encoders"
#: The detector that judges the pictures of those for whom the lower score counts.
SEEN_BY = {POLICY: OURS, PAIR: "two encoders"}
#: What the columns of detectors' numbers begin with.
SAYS = "says "
#: Rates of false alarms; attackers know the threshold of the last one.
RATES = (0.01, 0.02)


class Verdicts:
    """The verdicts of all detectors on the rows of a table.

    It has the columns `attack`, `file`, `photo`, `rise`, `rise of the lower`; `least`, the rise from which a picture
    counts as fooled; `SAYS` with the name of each detector, its numbers; and of ours `p` and `promised`, the p-value
    and the least of these.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.clean = table[(table.attack == CLEAN) & (table.file == AS_IT_IS)]
        self.names = [column.removeprefix(SAYS) for column in table if column.startswith(SAYS)]

    def promised(self, rate: float) -> float:
        """The rate, or the least one that so few clean pictures can promise."""
        return max(rate, 1 / (len(self.clean) + 1))

    def threshold(self, name: str, rate: float) -> float:
        """The number above which a baseline raises an alarm."""
        return conformal_threshold(sorted(self.clean[SAYS + name]), self.promised(rate))

    def scatter(self, name: str) -> float:
        """Standard deviation of a detector's numbers for clean pictures."""
        return float(self.clean[SAYS + name].std(ddof=0))

    def alarms(self, part: pd.DataFrame, name: str, rate: float = RATES[-1]) -> "pd.Series[bool]":
        """Whether a detector raises an alarm at each row."""
        if name == OURS:
            return part.p <= part.promised.clip(lower=rate)
        return part[SAYS + name] > self.threshold(name, rate)

    def caught(self, part: pd.DataFrame, name: str, rate: float = RATES[-1]) -> Estimate:
        """The share with an alarm of the pictures that count as fooled."""
        gained = part[part.rise >= part.least]
        return share(self.alarms(gained, name, rate), gained.photo)

    def area(self, part: pd.DataFrame, name: str) -> float:
        """Area under the ROC curve of those against clean pictures as they are; NaN if there is none."""
        gained = part[part.rise >= part.least]
        return area(self.clean[SAYS + name], gained[SAYS + name]) if len(gained) else np.nan

    def undetected(self, part: pd.DataFrame, name: str, column: str = "rise") -> Estimate:
        """Mean rise where a detector raises no alarm, else 0."""
        return mean(part[column].where(~self.alarms(part, name), 0.0), part.photo)

    def kept(self, part: pd.DataFrame, knows: str) -> Estimate:
        """What those keep who know one detector or policy, of the score that counts."""
        if knows == LOWER:
            return mean(part["rise of the lower"], part.photo)
        return self.undetected(part, SEEN_BY.get(knows, knows), "rise of the lower" if knows in SEEN_BY else "rise")


def false_alarms(table: pd.DataFrame, verdicts: Verdicts) -> str:
    """A sentence on the false alarms of every detector, and on where its threshold comes from."""
    rate = verdicts.promised(RATES[-1])
    said = []
    for name in verdicts.names:
        shares = [
            f"{percent(float(verdicts.alarms(part, name).mean()), '.1f')} of {len(part)} {attack} pictures {file}"
            for (attack, file), part in groups(table[table.attack.isin([CLEAN, ORIGINAL])], "attack", "file").items()
        ]
        said.append(f"{name}: {', '.join(shares)}")
    return (
        f"The thresholds of all detectors but ours are those of {percent(rate, '.1f')} of {len(verdicts.clean)} clean "
        f"pictures as they are; ours is {table.detector.iloc[0]!r}. False alarms: {'; '.join(said)}."
    )


def kept_by_budget(budget: float, strongest: dict[tuple[float, str], Estimate]) -> str:
    """A sentence on what those keep who know one detector or policy; `strongest` has it by budget and name."""
    here = {name: kept for (at, name), kept in strongest.items() if at == budget}
    said = ", ".join(f"{name} {kept:+.3f}" for name, kept in here.items())
    return (
        f"At {budget:g} dB those who know one detector and keep below its threshold have an undetected rise of: {said}."
    )
