"""The reference views: real weather readings of New York's three airports. Edit, or name a module of your own in the setting `views`."""

from views.weather import daily_weather, hourly_weather

VIEWS = (hourly_weather, daily_weather)
