from .estimator_report import write_estimator_report as write_estimator_report
from .explorer import explore as explore
from .report import write_report as write_report
